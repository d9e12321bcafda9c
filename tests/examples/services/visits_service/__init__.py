"""Counts the visits of each customer: an example of a service for which the sequence of a customer's orders matters.

Owns: which visit of its customer each order was. Publishes nothing. Consumes: `visits_service.count`, every order, in
four partitions by customer.
"""
