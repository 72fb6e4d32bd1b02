"""Sequences from models of the next token: drawn, scored, compared, trained on rewards."""

from tf_relax._src.sequences.decoder import Decoder
from tf_relax._src.sequences.drawing import Sequences
from tf_relax._src.sequences.estimators import (
    GroupNormalized,
    SequenceEstimator,
    SequenceLeaveOneOut,
    SequenceReinforce,
    SequenceRelax,
    SequenceUnorderedSet,
    get,
)
from tf_relax._src.sequences.rewards import Finished
from tf_relax._src.sequences.sequence_model import SequenceModel

__all__ = [
    "Decoder",
    "Finished",
    "GroupNormalized",
    "SequenceEstimator",
    "SequenceLeaveOneOut",
    "SequenceModel",
    "SequenceReinforce",
    "SequenceRelax",
    "SequenceUnorderedSet",
    "Sequences",
    "get",
]
