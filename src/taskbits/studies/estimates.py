"""Published estimates in a file: measurements that no program stands behind."""

import json
from pathlib import Path

from taskbits.errors import UserError
from taskbits.studies.measurement import Measurement, measurement_of


def read_estimates(path: Path) -> list[Measurement]:
    """Published estimates, a JSON object a line, shortest first. Raises UserError if the file holds anything else."""
    found = []
    try:
        for line in path.read_text(encoding="utf-8").splitlines():
            m = measurement_of(json.loads(line))
            if m.test is None:
                raise ValueError
            found.append(m)
    except OSError as error:
        raise UserError(f"{path} can't be read: {error.strerror}: import the published runs again") from error
    except (ValueError, TypeError, KeyError, RecursionError, UserError) as error:
        raise UserError(f"{path}, line {len(found) + 1}: not an estimate: import the published runs again") from error
    return sorted(found, key=lambda m: (m.bytes, -m.test.value))
