"""Tells the customer and the restaurant, over one channel each.

Owns: notifications.
Consumes: `notification_service.email`, `.sms`, `.restaurant`: the payment events, one queue a channel, so that a slow
mail server never holds up the kitchen.
Emails go out by SMTP (`smtp.py`) where EMAIL_URL names a server.
Publishes: `notification.delivered.v1` and `notification.failed.v1` to `notifications`.
"""
