"""From a service's descriptor and its servicer to the handlers that an engine serves."""

from collections.abc import Mapping
from typing import Any

from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor
from google.protobuf.message_factory import GetMessageClass

from libs.rpc.gate import Gate, Shared
from libs.rpc.options import StartError
from libs.rpc.pipeline import compose, unimplemented
from libs.rpc.policy import DEFAULT, Policy


class Service:
    """The gates and handlers of one service.

    Every method of ``descriptor`` gets a handler: the servicer's method of that name, or one that answers
    UNIMPLEMENTED. ``policies`` are by method name. Raises StartError when it names a method that the descriptor has
    not.
    """

    def __init__(
        self, descriptor: ServiceDescriptor, servicer: object, policies: Mapping[str, Policy], shared: Shared
    ) -> None:
        unknown = sorted(set(policies) - set(descriptor.methods_by_name))
        if unknown:
            raise StartError(f"policies for {descriptor.full_name} name methods it has not: {', '.join(unknown)}")
        self.name = descriptor.full_name
        self.gates: list[Gate] = []
        self.handlers: dict[str, Any] = {}
        self.implemented: list[str] = []
        for method in descriptor.methods:
            self._add(method, getattr(servicer, method.name, None), policies.get(method.name, DEFAULT), shared)

    def _add(self, method: MethodDescriptor, work: Any, policy: Policy, shared: Shared) -> None:
        streams_in, streams_out = method.client_streaming, method.server_streaming
        path = f"{self.name}/{method.name}"
        gate = Gate(path, policy, shared, stream=streams_in or streams_out)
        if work is None:
            work = unimplemented(path, self.name)
        else:
            self.implemented.append(method.name)
        self.gates.append(gate)
        self.handlers[method.name] = compose(
            gate, work, GetMessageClass(method.input_type), streams_in=streams_in, streams_out=streams_out
        )
