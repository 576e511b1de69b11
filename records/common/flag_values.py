"""Values of flags that are more than a word or a number, and what is wrong with them."""

from collections.abc import Sequence

from absl import flags

from records.common import cli


def by_class(name: str, parts: Sequence[str], kind: str = "weight") -> dict[str, float]:
    """Returns the numbers of a flag `--name=class=weight,class=weight`, by class name.

    Args:
        name: of the flag.
        parts: its value.
        kind: what the numbers are called in a message.

    Raises:
        UsageError: if a part is not of that form, or a class is named twice.
    """
    numbers: dict[str, float] = {}
    for part in parts:
        class_name, _, number = part.rpartition("=")
        try:
            value = float(number)
        except ValueError:
            class_name = ""
        if not class_name:
            raise cli.UsageError(f"--{name} must be class={kind},..., got {part!r}")
        if class_name in numbers:
            raise cli.UsageError(f"--{name} must name a class once, got {class_name!r} twice")
        numbers[class_name] = value
    return numbers


def pair(name: str, parts: Sequence[str]) -> tuple[float, float]:
    """Returns the two numbers of a flag `--name=low,high`.

    Raises:
        UsageError: if it is not two numbers.
    """
    try:
        low, high = map(float, parts)
    except ValueError:
        raise cli.UsageError(f"--{name} must be low,high, got {','.join(parts)!r}") from None
    return low, high


def refuse_unless(useful: bool, holder: flags.FlagHolder, belongs: str) -> None:
    """Refuses a flag that was given where it would be believed and do nothing.

    Args:
        useful: whether it has an effect.
        holder: the flag.
        belongs: what it goes with and what there is instead, `target band, not to natural`.

    Raises:
        UsageError: if it was given and has none.
    """
    if holder.present and not useful:
        raise cli.UsageError(f"--{holder.name} belongs to {belongs}")
