"""Stopping criteria, where transformers had them."""

from triptych.generation.stopping import ConfidenceCriteria as ConfidenceCriteria
from triptych.generation.stopping import EosTokenCriteria as EosTokenCriteria
from triptych.generation.stopping import MaxLengthCriteria as MaxLengthCriteria
from triptych.generation.stopping import MaxTimeCriteria as MaxTimeCriteria
from triptych.generation.stopping import StoppingCriteria as StoppingCriteria
from triptych.generation.stopping import StoppingCriteriaList as StoppingCriteriaList
from triptych.generation.stopping import StopStringCriteria as StopStringCriteria
