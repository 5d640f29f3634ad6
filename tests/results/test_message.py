import pytest

from theorylens.results import Message


def test_values_fill_the_template_and_percentages_keep_their_sign_beside_them():
    message = Message("x", "{share:.1%} of {n} rows, change {d:.2f}", share=0.125, n=1200, d=-0.5)
    assert message.render() == "12.5\N{NO-BREAK SPACE}% of 1200 rows, change \N{MINUS SIGN}0.50"


def test_powers_of_ten_are_written_out():
    assert Message("x", "{a:.3g}, {b:.3g}, {c:.3g}", a=-1747.2, b=123456.0, c=9996.0).render() == (
        "\N{MINUS SIGN}1,750, 123,000, 10,000"
    )
    assert Message("x", "{a:.1e}, {b:.3g}", a=-2.6e-6, b=1.5e12).render() == "\N{MINUS SIGN}2.6×10⁻⁶, 1.5×10¹²"


def test_a_message_inside_a_message_is_translated_too():
    inner = Message("i", "early")
    outer = Message("o", "stopped {when}", when=inner)
    zh = {"early": "过早", "stopped {when}": "{when}停止"}
    assert outer.render(lambda text: zh[text]) == "过早停止"


@pytest.mark.parametrize("values", [{}, {"a": 1, "b": 2}, {"b": 1}])
def test_template_and_values_must_name_the_same(values):
    with pytest.raises(ValueError, match="the template names"):
        Message("x", "{a}", **values)


def test_a_translated_template_cannot_reach_into_attributes():
    with pytest.raises(KeyError):
        Message("x", "{a}", a=1).render(lambda _: "{a.__class__}")


def test_equal_messages_are_equal_and_hash_alike():
    a, b = (Message("x", "{n}", n=1) for _ in range(2))
    assert a == b
    assert hash(a) == hash(b)
    assert a != Message("x", "{n}", n=2)
