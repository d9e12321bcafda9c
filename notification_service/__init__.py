"""Notifies the customer by email, text and push message, and the restaurant by kitchen ticket.

Owns: notifications.
Consumes: the payment events from `notification_service.email`, `.sms`, `.push` and `.restaurant`: each channel has
its own queue, so that a slow mail server never delays the kitchen.
Publishes: `notification.delivered.v1` and `notification.failed.v1` to `notifications`.
"""
