"""RabbitMQ for the services: connection, publisher, consumer, retries. The only place that imports pika."""
