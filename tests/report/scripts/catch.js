// First in the head of a copy of the page: keeps every error and console message.
window.__errors = [];
addEventListener("error", function (e) { window.__errors.push(String(e.message || e.target.outerHTML)); }, true);
["error", "warn", "log", "info"].forEach(function (name) {
  var old = console[name];
  console[name] = function () { window.__errors.push([].join.call(arguments, " ")); old.apply(console, arguments); };
});
