"""Export of networks to ONNX files of few bytes.

Graph edits work on protobufs. The passes of onnx-ir would replace `drop_unread_nodes_` and the removal of comments,
about 30 lines. It has no pass for short names, default attributes and shared zeros, which make most of the difference.
"""
