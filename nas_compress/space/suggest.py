"""A name that search spaces of earlier versions import; the module is `config.suggest` now."""

from nas_compress.config.suggest import Suggest as Suggest
