"""Credits loyalty points for paid orders: an example of a service that is added without a change of any other.

Owns: the points of each order. Publishes nothing. Consumes: `loyalty_service.earn`, every successful payment.
"""
