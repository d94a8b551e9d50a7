"""The made-up system whose traces the demo makes: a web shop of nine services, as a tree of work for each request."""

from __future__ import annotations

from collections.abc import Mapping

from attrs import frozen
from opentelemetry.proto.trace.v1.trace_pb2 import Span

Value = str | int | float | bool

SERVER, CLIENT = Span.SPAN_KIND_SERVER, Span.SPAN_KIND_CLIENT
PRODUCER, CONSUMER, INTERNAL = Span.SPAN_KIND_PRODUCER, Span.SPAN_KIND_CONSUMER, Span.SPAN_KIND_INTERNAL


@frozen
class Work:
    """One span to be: ``own_ms`` is its time without that of its ``calls``, which come one after the other."""

    service: str
    name: str
    kind: Span.SpanKind.ValueType
    scope: str
    own_ms: float
    attributes: Mapping[str, Value]
    calls: tuple[Work, ...] = ()
    aside: bool = False  # nobody waits for it, so it may end, and be sent, long after the rest

    @property
    def depth_first(self) -> tuple[Work, ...]:
        """This and all below it."""
        return (self, *(each for call in self.calls for each in call.depth_first))


@frozen
class Service:
    """What a service says of itself in its resource."""

    language: str
    version: str
    scope: str
    replicas: int


SERVICES: Mapping[str, Service] = {
    "storefront": Service("nodejs", "4.12.1", "@opentelemetry/instrumentation-http", 3),
    "checkout": Service("go", "2.7.0", "go.opentelemetry.io/contrib/instrumentation/net/http/otelhttp", 2),
    "cart": Service("dotnet", "1.19.3", "Microsoft.AspNetCore", 2),
    "catalog": Service("python", "3.4.0", "opentelemetry.instrumentation.flask", 3),
    "payment": Service("java", "5.0.2", "io.opentelemetry.tomcat-10.0", 2),
    "inventory": Service("java", "1.8.11", "io.opentelemetry.grpc-1.6", 2),
    "shipping": Service("rust", "0.9.4", "tonic-tracing", 1),
    "accounts": Service("ruby", "6.2.0", "OpenTelemetry::Instrumentation::Rack", 2),
    "notification": Service("python", "2.1.5", "opentelemetry.instrumentation.confluent_kafka", 1),
}


def _http(service: str, method: str, route: str, own_ms: float, *calls: Work) -> Work:
    """A request as the service that answers it sees it."""
    attributes: dict[str, Value] = {
        "http.request.method": method,
        "http.route": route,
        "http.response.status_code": 200,
        "url.path": route.replace("{id}", "8123"),
        "url.scheme": "http",
        "server.address": service,
        "network.protocol.version": "1.1",
        "user_agent.original": "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0",
    }
    return Work(service, f"{method} {route}", SERVER, SERVICES[service].scope, own_ms, attributes, calls)


def _ask(caller: str, answer: Work) -> Work:
    """A call over the network: a client span in ``caller`` with the answer below it."""
    told = ("http.request.method", "http.response.status_code", "rpc.system", "rpc.service", "rpc.method")
    attributes = {name: answer.attributes[name] for name in told if name in answer.attributes}
    attributes |= {"server.address": f"{answer.service}.shop.svc.cluster.local", "server.port": 8080}
    name = answer.name if "rpc.system" in attributes else str(attributes["http.request.method"])
    return Work(caller, name, CLIENT, SERVICES[caller].scope, 1.2, attributes, (answer,))


def _rpc(service: str, method: str, own_ms: float, *calls: Work) -> Work:
    full = f"shop.{service.capitalize()}Service"
    attributes: dict[str, Value] = {
        "rpc.system": "grpc",
        "rpc.service": full,
        "rpc.method": method,
        "rpc.grpc.status_code": 0,
    }
    return Work(service, f"{full}/{method}", SERVER, SERVICES[service].scope, own_ms, attributes, calls)


def _sql(service: str, operation: str, table: str, rest: str, own_ms: float, rows: int = 1) -> Work:
    """``rest`` is what stands after the table."""
    preposition = {"SELECT": "FROM ", "INSERT": "INTO "}.get(operation, "")
    before = f"{operation} id, name, price {preposition}" if operation == "SELECT" else f"{operation} {preposition}"
    attributes: dict[str, Value] = {
        "db.system.name": "postgresql",
        "db.namespace": service,
        "db.operation.name": operation,
        "db.query.text": f"{before}{table} {rest}",
        "db.response.returned_rows": rows,
        "server.address": f"{service}-db.shop.svc.cluster.local",
        "server.port": 5432,
    }
    return Work(service, f"{operation} {service}.{table}", CLIENT, "postgresql", own_ms, attributes)


def _redis(service: str, operation: str, rest: str, own_ms: float = 0.7) -> Work:
    attributes: dict[str, Value] = {
        "db.system.name": "redis",
        "db.operation.name": operation,
        "db.query.text": f"{operation} {rest}",
        "server.address": "redis-master.shop.svc.cluster.local",
        "server.port": 6379,
    }
    return Work(service, operation, CLIENT, "redis", own_ms, attributes)


def _publish(service: str, topic: str, *reactions: Work) -> Work:
    attributes: dict[str, Value] = {
        "messaging.system": "kafka",
        "messaging.destination.name": topic,
        "messaging.operation.type": "send",
    }
    return Work(service, f"send {topic}", PRODUCER, "kafka", 2.5, attributes, reactions)


def _react(service: str, topic: str, own_ms: float, *calls: Work) -> Work:
    """Takes a message; the one who sent it does not wait."""
    attributes: dict[str, Value] = {
        "messaging.system": "kafka",
        "messaging.destination.name": topic,
        "messaging.operation.type": "process",
        "messaging.consumer.group.name": service,
    }
    return Work(service, f"process {topic}", CONSUMER, SERVICES[service].scope, own_ms, attributes, calls, aside=True)


def _inside(service: str, name: str, own_ms: float) -> Work:
    return Work(service, name, INTERNAL, f"shop.{service}", own_ms, {"code.function.name": name})


_SESSION = _ask("storefront", _http("accounts", "GET", "/session", 2, _redis("accounts", "GET", "session:?")))
_PRODUCT = _http(
    "catalog", "GET", "/products/{id}", 6,
    _redis("catalog", "GET", "product:?"),
    _sql("catalog", "SELECT", "products", "WHERE id = $1", 4),
)  # fmt: skip
_STOCK = _rpc("inventory", "Reserve", 5, _sql("inventory", "UPDATE", "stock", "SET held = held + $1 WHERE id = $2", 9))
_PAY = _http(
    "payment", "POST", "/charges", 12,
    _inside("payment", "FraudCheck.score", 14),
    Work("payment", "POST", CLIENT, SERVICES["payment"].scope, 85, {
        "http.request.method": "POST", "http.response.status_code": 200, "server.address": "api.acquirer.example",
        "server.port": 443, "url.full": "https://api.acquirer.example/v3/charges",
    }),
    _sql("payment", "INSERT", "charges", "(id, amount) VALUES ($1, $2)", 6),
)  # fmt: skip

# How often each is asked for, and what it takes.
REQUESTS: tuple[tuple[int, Work], ...] = (
    (30, _http("storefront", "GET", "/", 8, _ask("storefront", _http(
        "catalog", "GET", "/products", 9, _sql("catalog", "SELECT", "products", "LIMIT 24", 7, 24))))),
    (26, _http("storefront", "GET", "/products/{id}", 7, _SESSION, _ask("storefront", _PRODUCT))),
    (14, _http("storefront", "GET", "/search", 6, _ask("storefront", _http(
        "catalog", "GET", "/search", 11, _sql("catalog", "SELECT", "products", "WHERE text @@ $1", 32, 17))))),
    (12, _http("storefront", "POST", "/cart", 6, _SESSION, _ask("storefront", _http(
        "cart", "POST", "/cart/items", 4, _redis("cart", "HSET", "cart:? ? ?"), _redis("cart", "EXPIRE", "cart:? 86400"))))),
    (9, _http("storefront", "POST", "/checkout", 9, _SESSION, _ask("storefront", _http(
        "checkout", "POST", "/orders", 8,
        _ask("checkout", _http("cart", "GET", "/cart", 3, _redis("cart", "HGETALL", "cart:?"))),
        _ask("checkout", _STOCK),
        _ask("checkout", _PAY),
        _ask("checkout", _rpc("shipping", "Quote", 7)),
        _sql("checkout", "INSERT", "orders", "(id, cart, charge) VALUES ($1, $2, $3)", 8),
        _publish("checkout", "orders", _react(
            "notification", "orders", 5, _inside("notification", "render_receipt", 21),
            _sql("notification", "INSERT", "outbox", "(id, body) VALUES ($1, $2)", 5))),
    )))),
    (5, _http("storefront", "GET", "/orders/{id}", 6, _SESSION, _ask("storefront", _http(
        "checkout", "GET", "/orders/{id}", 4, _sql("checkout", "SELECT", "orders", "WHERE id = $1", 5))))),
    (4, _http("accounts", "POST", "/login", 5, _sql("accounts", "SELECT", "users", "WHERE mail = $1", 4),
              _inside("accounts", "bcrypt.verify", 68), _redis("accounts", "SET", "session:?"))),
)  # fmt: skip
