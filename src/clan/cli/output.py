"""temporary"""


def table(head: list[str], rows: list[list[str]]) -> str:
    w = [max(len(r[i]) for r in [head, *rows]) for i in range(len(head))]
    return "\n".join(" ".join(c.ljust(x) for c, x in zip(r, w)).rstrip() for r in [head, *rows])
