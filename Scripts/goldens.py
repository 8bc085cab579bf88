"""Writes tensors as a safetensors file, for the scripts that make the tests' golden numbers."""
import json
import pathlib
import struct

TYPES = {"float32": "F32", "float64": "F64"}


def save(path, tensors):
    """tensors: PyTorch's, by name, of float32 or float64."""
    header, data = {}, b""
    for name, tensor in tensors.items():
        array = tensor.detach().contiguous().numpy()
        raw = array.tobytes()
        header[name] = {
            "dtype": TYPES[str(array.dtype)], "shape": list(array.shape),
            "data_offsets": [len(data), len(data) + len(raw)]}
        data += raw
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    path = pathlib.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)
    print(f"{path}: {path.stat().st_size} bytes")
