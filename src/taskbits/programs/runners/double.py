"""Float64 throughout: what is asked of torch in float32 while this is entered is done in float64.

However the asker spells it: `torch.float`, `Tensor.float`, a type of numbers among the arguments or by name, for a
conversion or a new tensor. It is a torch function mode, so nothing in torch changes, and it holds for the thread that
enters it. A backward pass computes in the types that the forward pass had; Python code that only the backward pass runs
is not reached. For runners, into whose standalone files it goes, and for their encoders.
"""

import torch


class Double(torch.overrides.TorchFunctionMode):
    """`with Double():` a model in float64 computes everything in float64, also norms, angles and scores."""

    def __torch_function__(self, function, types, arguments=(), named={}):
        return (function, torch.Tensor.double)[function is torch.Tensor.float](
            *[(value, torch.double)[value is torch.float32] for value in arguments],
            **{name: (named[name], torch.double)[named[name] is torch.float32] for name in named},
        )
