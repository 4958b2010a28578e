"""`python -m sora_jax`, which is the `sora-jax` command."""


def main() -> None:
    """Runs the command line."""
    # Imported late: worker processes import this module again, and need none of it.
    from sora_jax import cli

    cli.main()


if __name__ == "__main__":
    main()
