"""Order Rail measured beside what people would otherwise write: `python -m benchmarks`, or `make bench`.

Nothing here is part of the product. A contender is Order Rail, a peer or a ceiling; a measurement runs contenders one
after the other, in turns, against one private RabbitMQ node, each in a virtual host and with databases of its own.
"""
