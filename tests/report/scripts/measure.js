// Last in the body of a copy of the page: what sticks out, what overlaps, which colours, what was fetched.
addEventListener("load", function () {
  var wide = document.documentElement.clientWidth, out = [], touching = [];
  function scrolls(e) {
    for (; e && e !== document.body; e = e.parentElement)
      if (/auto|scroll|hidden/.test(getComputedStyle(e).overflowX)) return true;
    return false;
  }
  document.querySelectorAll("body *").forEach(function (e) {
    var box = e.getBoundingClientRect();
    if (box.width && box.right > wide + 0.5 && !scrolls(e) && !e.closest("svg"))
      out.push(e.tagName + "." + e.className + " " + box.right);
  });
  document.querySelectorAll("figure svg").forEach(function (svg) {
    var texts = Array.from(svg.querySelectorAll("text")).map(function (t) { return [t.textContent, t.getBoundingClientRect()]; });
    texts.forEach(function (a, i) {
      if (a[1].right > wide + 0.5) out.push("svg text " + a[0]);
      texts.slice(i + 1).forEach(function (b) {
        var x = Math.min(a[1].right, b[1].right) - Math.max(a[1].left, b[1].left);
        var y = Math.min(a[1].bottom, b[1].bottom) - Math.max(a[1].top, b[1].top);
        if (x > 1 && y > 2) touching.push(svg.getAttribute("aria-label") + ": " + a[0] + " / " + b[0]);
      });
    });
  });
  var style = getComputedStyle(document.body), line = document.querySelector("figure svg path[style*='--net']");
  document.title = "MEASURED" + JSON.stringify({
    width: innerWidth, scroll: document.documentElement.scrollWidth, out: out, touching: touching,
    paper: style.backgroundColor, ink: style.color, stroke: line && getComputedStyle(line).stroke,
    fetched: performance.getEntriesByType("resource").map(function (e) { return e.name; }), errors: window.__errors
  });
});
