"""Names that search spaces of earlier versions import; the module is `values.candidate` now."""

from nas_compress.values.candidate import Candidate as Candidate
from nas_compress.values.candidate import LossTerm as LossTerm
from nas_compress.values.candidate import Quantization as Quantization
from nas_compress.values.candidate import Teaching as Teaching
from nas_compress.values.candidate import cross_entropy as cross_entropy
from nas_compress.values.candidate import distillation as distillation
from nas_compress.values.candidate import label_smoothing as label_smoothing
