"""The local CPU under OpenVINO; needs the extra `openvino`."""
