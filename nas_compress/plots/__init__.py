"""Pictures of fronts and of progress."""

from nas_compress.plots.matplotlib_isolation import import_matplotlib

import_matplotlib()  # before any module of this folder imports it in the usual way
