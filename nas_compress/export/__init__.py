"""Networks written as ONNX files that hold as few bytes as their weights allow.

Graph edits work on protobufs. The passes of onnx-ir would replace `drop_unread_nodes_` and the removal of comments,
about 30 lines; short names, default attributes and shared zeros, which make most of the difference, have no pass there.
"""
