import click


@click.group()
def kibotos(): ...
def main():
    kibotos()
