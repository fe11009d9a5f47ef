"""An accelerator for machines that have none: tensors that lie elsewhere, compute on the CPU, but meet no CPU tensor.

As on a GPU, an operation on tensors of both places is an error, and so is asking for the numbers without copying them
back. The device is called `lazy`: of those that a CPU build of torch knows by name, autograd runs it without a driver.
"""

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map

DEVICE = torch.device("lazy", 0)
_BETWEEN = {  # operations that take tensors of both places: copies, and numbers of rows
    torch.ops.aten.copy_.default,
    torch.ops.aten._to_copy.default,
    torch.ops.aten.to.device,
    torch.ops.aten.index.Tensor,
    torch.ops.aten.index_put_.default,
}


class _There(torch.Tensor):
    """A tensor that lies elsewhere; `here` is what it holds, on the CPU."""

    @staticmethod
    def __new__(cls, here):
        size, stride, offset = here.size(), here.stride(), here.storage_offset()
        options = {"dtype": here.dtype, "device": DEVICE}
        return torch.Tensor._make_wrapper_subclass(cls, size, strides=stride, storage_offset=offset, **options)

    def __init__(self, here):
        self.here = here

    def __repr__(self):
        return f"elsewhere: {self.here}"

    @classmethod
    def __torch_function__(cls, function, types, args=(), kwargs=None):
        if function is torch.Tensor.numpy:
            raise TypeError("can't convert a tensor that lies elsewhere to numpy")
        if function == torch.Tensor.data.__set__ and isinstance(args[0], cls):
            args[0].here = args[1].here
        with torch._C.DisableTorchFunctionSubclass():
            if function is torch.Tensor.tolist:
                return args[0].here.tolist()
            return function(*args, **(kwargs or {}))

    @classmethod
    def __torch_dispatch__(cls, operation, types, args=(), kwargs=None):
        return _run(operation, args, kwargs or {})


class Elsewhere(TorchDispatchMode):
    """Where it is active, tensors can be made and moved elsewhere."""

    def __enter__(self):
        torch._C._set_only_lift_cpu_tensors(True)  # torch.tensor(..., device=...) makes its tensor here, then moves it
        return super().__enter__()

    def __exit__(self, *error):
        torch._C._set_only_lift_cpu_tensors(False)
        return super().__exit__(*error)

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        return _run(operation, args, kwargs or {})


def _run(operation, args, kwargs):
    parts = tree_flatten((args, kwargs))[0]
    there = {id(part.here): part for part in parts if isinstance(part, _There)}
    here = [part for part in parts if isinstance(part, torch.Tensor) and not isinstance(part, _There) and part.dim()]
    if there and here and operation not in _BETWEEN:
        raise RuntimeError(f"{operation}: expected all tensors on one device, found {DEVICE} and cpu")
    wanted = [part for part in parts if isinstance(part, torch.device)]
    goes = wanted[0].type == DEVICE.type if wanted else bool(there)

    def inside(part):
        return (
            part.here if isinstance(part, _There) else torch.device("cpu") if isinstance(part, torch.device) else part
        )

    def placed(part):
        if not isinstance(part, torch.Tensor) or not goes:
            return part
        return there[id(part)] if id(part) in there else _There(part)

    return tree_map(placed, operation(*tree_map(inside, args), **tree_map(inside, kwargs)))
