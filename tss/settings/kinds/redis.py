"""The address of Redis."""

from tss.settings import redis_url as addresses
from tss.settings.kinds.kind import Kind, refused
from tss.settings.kinds.texts import read_text


def _read_redis_url(raw: object) -> str:
    value = read_text(raw, addresses.ALLOWED)
    try:
        if value:
            addresses.parse(value)
    except ValueError as error:
        raise refused(raw, addresses.ALLOWED, str(error)) from None
    return value


redis_url = Kind(
    addresses.ALLOWED, _read_redis_url, literal=True, show=lambda value: addresses.without_password(str(value))
)
