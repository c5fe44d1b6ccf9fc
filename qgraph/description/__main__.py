"""`python -m qgraph.description` prints the page of the schema."""

from qgraph.description.template import page

if __name__ == "__main__":
    print(page(), end="")
