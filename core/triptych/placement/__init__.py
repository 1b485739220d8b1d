"""Where the weights of a model go: a map from its modules to devices, planned from names, sizes and ties alone.

Imports `families` and what is below. A backend carries the map out.
"""

from triptych.placement.balance import balanced_memory as balanced_memory
from triptych.placement.inferring import infer_auto_device_map as infer_auto_device_map
from triptych.placement.mapping import bytes_by_device as bytes_by_device
from triptych.placement.mapping import device_of as device_of
from triptych.placement.memory import parse_max_memory as parse_max_memory
from triptych.placement.outline import Outline as Outline
from triptych.placement.planning import Plan as Plan
from triptych.placement.planning import plan_placement as plan_placement
