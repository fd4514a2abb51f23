"""Sessions for a grpc.aio server, in three lines::

    async with Verifier(client.session.realm("web"), bound_s=5) as verifier:
        server = grpc.aio.server(interceptors=[SessionInterceptor(verifier)])

and in a method ``current_session()`` is who calls, as a :class:`~wellspring_client.verifier.Verified`. The token, or an
assertion where the verifier checks them, comes as metadata ``authorization: bearer …``. None or a worthless one is
UNAUTHENTICATED; not known now is UNAVAILABLE; neither says more.
"""

import contextvars
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any, Final, cast

import grpc

from wellspring_client.errors import InvalidRequest, QuotaExceeded, Unauthenticated, WellspringError
from wellspring_client.verifier import Verified, Verifier

if TYPE_CHECKING:  # generic for the type checker only
    _Interceptor = grpc.aio.ServerInterceptor[Any, Any]
    _Handler = grpc.RpcMethodHandler[Any, Any]
else:
    _Interceptor, _Handler = grpc.aio.ServerInterceptor, grpc.RpcMethodHandler

_log = logging.getLogger("wellspring_client.grpc_interceptor")
_SCHEME: Final = "bearer "
_HEALTH: Final = ("/grpc.health.v1.Health/",)
_current: contextvars.ContextVar[Verified | None] = contextvars.ContextVar("wellspring_session", default=None)

_MAKERS: Final[dict[tuple[bool, bool], Callable[..., Any]]] = {
    (False, False): grpc.unary_unary_rpc_method_handler,
    (False, True): grpc.unary_stream_rpc_method_handler,
    (True, False): grpc.stream_unary_rpc_method_handler,
    (True, True): grpc.stream_stream_rpc_method_handler,
}


def current_session() -> Verified | None:
    """Who makes the call that is being answered; None where no session is asked for, or none came."""
    return _current.get()


class SessionInterceptor(_Interceptor):
    """``open_methods``: full names that need no session ("/pkg.Service/Method"), or whole services ("/pkg.Service/");
    the health service is one. ``required`` False: a call without metadata is answered as nobody's; a worthless token
    is refused all the same. Methods must be coroutines or asynchronous generators.
    """

    def __init__(self, verifier: Verifier, *, required: bool = True, open_methods: Sequence[str] = _HEALTH) -> None:
        self._verifier = verifier
        self._required = required
        self._open = tuple(open_methods)

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[_Handler]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> _Handler:
        """As grpc.aio says."""
        handler: Any = await continuation(handler_call_details)
        if handler is None or self._is_open(handler_call_details.method):
            return cast(_Handler, handler)
        given = [value for key, value in handler_call_details.invocation_metadata or () if key == "authorization"]
        inner = handler.stream_stream or handler.stream_unary or handler.unary_stream or handler.unary_unary
        wrapped = self._streaming(inner, given) if handler.response_streaming else self._single(inner, given)
        made: _Handler = _MAKERS[handler.request_streaming, handler.response_streaming](
            wrapped, handler.request_deserializer, handler.response_serializer
        )
        return made

    def _is_open(self, method: str) -> bool:
        return any(method == one or (one.endswith("/") and method.startswith(one)) for one in self._open)

    def _single(self, inner: Callable[..., Any], given: Sequence[str | bytes]) -> Callable[..., Any]:
        async def answer(request: Any, context: grpc.aio.ServicerContext[Any, Any]) -> Any:
            _current.set(await self._session(given, context))
            return await inner(request, context)

        return answer

    def _streaming(self, inner: Callable[..., Any], given: Sequence[str | bytes]) -> Callable[..., Any]:
        async def answers(request: Any, context: grpc.aio.ServicerContext[Any, Any]) -> AsyncIterator[Any]:
            _current.set(await self._session(given, context))
            found = inner(request, context)
            if not hasattr(found, "__aiter__"):
                await found  # a coroutine, which writes by itself
                return
            async for one in found:
                yield one

        return answers

    async def _session(
        self, given: Sequence[str | bytes], context: grpc.aio.ServicerContext[Any, Any]
    ) -> Verified | None:
        if not given and not self._required:
            return None
        text = given[0] if len(given) == 1 else ""
        if not isinstance(text, str) or not text.lower().startswith(_SCHEME):
            await context.abort(grpc.StatusCode.UNAUTHENTICATED, "authorization: bearer … is expected, once")
            raise AssertionError("abort raises")
        code, message = grpc.StatusCode.UNAVAILABLE, "sessions cannot be checked now; try again"
        try:
            return await self._verifier.check(text[len(_SCHEME) :].strip(), address=_address(context.peer()))
        except (Unauthenticated, InvalidRequest):
            code, message = grpc.StatusCode.UNAUTHENTICATED, "no live session; log in again"
        except QuotaExceeded:
            code, message = grpc.StatusCode.RESOURCE_EXHAUSTED, "too many attempts; try again later"
        except WellspringError as error:
            _log.warning("a session could not be checked: %s", error.reason or type(error).__name__)
        await context.abort(code, message)
        raise AssertionError("abort raises")


def _address(peer: str) -> str:
    """The host in gRPC's name of a peer ("ipv4:127.0.0.1:5", "ipv6:%5B::1%5D:5"); empty for a socket of a file."""
    kind, _, rest = peer.partition(":")
    if kind not in ("ipv4", "ipv6"):
        return ""
    return rest.rpartition(":")[0].replace("%5B", "").replace("%5D", "").strip("[]")
