"""A name that search spaces of earlier versions import; the module is `values.teaching` now."""

from nas_compress.values.teaching import temperatures as temperatures
