# The short commands of these pages. In the folder of the clone, while the system runs: . docs/commands.sh
# It reads where the system is from .run/environment. For bash and zsh; it needs curl.

if [ ! -f ./.run/environment ]; then
  echo "No system runs here: start one with 'make up' in another terminal, and come back to this folder." >&2
  return 1
fi
. ./.run/environment
PATH="$PWD/.venv/bin:$PATH"

# place [CARD [KEY]]: orders two pizzas, and prints the order's id. CARD is a payment token, KEY an idempotency key.
place() {
  curl -s "$ORDER_SERVICE_URL/orders" -H 'Content-Type: application/json' -H "${2:+Idempotency-Key: $2}" -d '{
    "customer_email": "ada@example.com", "items": [{"sku": "margherita", "quantity": 2}],
    "payment_token": "'"${1:-tok_visa}"'"}' | field order_id
}

# place_many NUMBER: so many orders, some at the same time, and prints how many were answered with which status.
place_many() {
  curl -sZ --no-progress-meter "$ORDER_SERVICE_URL/orders?[1-$1]" -H 'Content-Type: application/json' -o /dev/null -w '%{http_code}\n' -d '{
    "customer_email": "ada@example.com", "items": [{"sku": "cola", "quantity": 1}]}' | sort | uniq -c
}

# order ID: what the order service knows of an order. payment ID: what the payment service knows of its payment.
order() { curl -s "$ORDER_SERVICE_URL/orders/$1" | python -m json.tool; }
payment() { curl -s "$PAYMENT_SERVICE_URL/payments/$1" | python -m json.tool; }

# service_urls: where each service is, also those of your own.
service_urls() { sed -n 's/^[A-Z_]*_SERVICE_URL=//p' .run/environment; }

# wait_until ID STATUS: returns once the order has this status. all_ready: returns once every service is ready.
wait_until() {
  until [ "$(curl -s "$ORDER_SERVICE_URL/orders/$1" | field status)" = "$2" ]; do sleep 0.2; done
  echo "$2"
}
all_ready() {
  for service in $(service_urls); do
    until curl -sf -o /dev/null "$service/readyz"; do sleep 0.2; done
  done
  . ./.run/environment # a service that was killed has another process now
  echo "all ready"
}

# all_done: returns once no message has been on its way, and no event in an outbox, for two looks; both are counted once a second.
all_done() {
  local calm=0 looks=0 waiting service
  until [ "$calm" = 2 ]; do
    sleep 1.2
    waiting="$(rabbit GET "queues/$VHOST" | python -c 'import json, sys
print(*(each["name"] for each in json.load(sys.stdin)
        if each.get("messages", 1) and each["name"] != "events" and not each["name"].endswith(".dead")))')"
    for service in $(service_urls); do
      waiting="$waiting$(curl -s "$service/metrics" | sed -n '/^order_rail_outbox_pending [^0]/p')"
    done
    if [ -z "$waiting" ]; then calm=$((calm + 1)); else calm=0; fi
    looks=$((looks + 1))
    if [ "$((looks % 25))" = 0 ]; then echo "still waiting: $waiting" >&2; fi
  done
  echo "all done"
}

# in_outbox: how many events of the order service are not published yet.
in_outbox() {
  python -c 'import sqlite3
print(*sqlite3.connect(".run/order_service.db").execute("SELECT count(*) FROM outbox").fetchone())'
}

# backlog QUEUE: how many of its messages wait, and how many a consumer holds. RabbitMQ counts once a second.
backlog() {
  rabbit GET "queues/$VHOST/$1" | python -c 'import json, sys
queue = json.load(sys.stdin)
print(queue["messages_ready"], "waiting,", queue["messages_unacknowledged"], "with a consumer")'
}

# rabbit METHOD PATH [BODY]: asks RabbitMQ's management API. $VHOST is the virtual host in such a path.
VHOST="${RABBITMQ_URL##*/}"
rabbit() {
  curl -s -X "$1" "$RABBITMQ_MANAGEMENT_URL/api/$2" -H 'Content-Type: application/json' -d "${3:-}"
}

# field NAME: one field of the JSON that comes in.
field() { python -c 'import json, sys; print(json.load(sys.stdin).get(sys.argv[1], ""))' "$1" 2>/dev/null; }
