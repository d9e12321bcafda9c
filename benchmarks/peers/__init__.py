"""The same shop, written as the documentation of other libraries teaches it, with the same guarantees.

An order is written durably before its 202; messages are persistent and confirmed by the broker; a worker acknowledges
after its work; a duplicate is refused by the primary key. Each peer is three services with a database each: the web
application, payments and notifications. Dramatiq and FastStream have a second variant, which does for an order all that
Order Rail does (`all_steps`).
"""
