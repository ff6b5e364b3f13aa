"""Writes the rules, the dashboards and the documents anew."""

from dev.monitoring import generated


def main() -> None:
    """Write them."""
    for path, text in generated.files().items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


if __name__ == "__main__":
    main()
