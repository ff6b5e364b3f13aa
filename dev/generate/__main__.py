"""Write every generated file."""

from dev.generate.files import files


def main() -> None:
    """Write and print the files whose content changed."""
    for path, text in files():
        if not path.exists() or path.read_text() != text:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
            print(path)


if __name__ == "__main__":
    main()
