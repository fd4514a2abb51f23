"""A program for the bundle's own tests: a third-party package, generated code, and a child process."""

import subprocess
import sys

import click
import numpy

from wellspring.bench.v1 import echo_pb2


@click.command()
@click.argument("name")
@click.option("--child", is_flag=True)
def hello(name: str, child: bool) -> None:
    """Greets NAME from here and from a child."""
    count = int(numpy.arange(3).sum())
    click.echo(f"hello {name} {count} {echo_pb2.DESCRIPTOR.package}", nl=True)
    if not child:
        sys.stdout.flush()
        subprocess.run([sys.executable, "-S", "-m", "tools.bundle.sample.hello", "--child", "child"], check=True)


if __name__ == "__main__":
    hello()
