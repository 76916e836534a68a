#!/usr/bin/env python3
"""Writes the self-test's reference.json: a few sentences with the vectors that the fp32 model gives them.

    python scripts/reference_vectors.py /tmp/out/model_fp32.onnx models/all-minilm-l6-v2

fp32 and not int8 vectors: fp32 is the same on every machine to 1e-6, while int8 already differs between CPUs that are both
in order. The wanted cosine leaves room for what int8 costs anywhere; see the model's README for the measurements.
"""

import json
import sys

import numpy as np
import onnxruntime
from tokenizers import Tokenizer

COSINE_MIN = 0.97
TOKENS_MAX = 256
TEXTS = [
    "how do I rotate a log file",
    "A lease expires when its holder has not renewed it for ten seconds; another node may then take it over.",
    "SELECT id, title FROM documents WHERE date >= '2024-01-01' ORDER BY date DESC LIMIT 10;",
    "Der Zug nach Zürich fährt heute zwanzig Minuten später von Gleis 7 ab.",
    "The harbour froze early that year. Boats that had not been hauled out by the first week of November stayed where "
    "they were, their hulls creaking at night as the ice tightened, and the ferry ran only on days when the breaker "
    "had gone ahead of it. Supplies came over the mountain road by truck instead: flour, diesel, spare parts for the "
    "pumps, and mail in canvas sacks that smelled of exhaust by the time they reached the post office.",
]


def main():
    if len(sys.argv) != 3:
        raise SystemExit("usage: reference_vectors.py MODEL_FP32.onnx FOLDER")
    model, folder = sys.argv[1:]
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    tokenizer = Tokenizer.from_file(folder + "/tokenizer.json")
    tokenizer.no_padding()
    tokenizer.enable_truncation(TOKENS_MAX)
    texts = [{"text": text, "vector": rounded(embed(session, tokenizer, text))} for text in TEXTS]
    with open(folder + "/reference.json", "w", encoding="utf-8") as file:
        json.dump({"cosine_min": COSINE_MIN, "texts": texts}, file, ensure_ascii=False)
        file.write("\n")


def embed(session, tokenizer, text):
    tokens = tokenizer.encode(text)
    inputs = {
        "input_ids": np.array([tokens.ids]),
        "attention_mask": np.array([tokens.attention_mask]),
        "token_type_ids": np.array([tokens.type_ids]),
    }
    mean = session.run(None, inputs)[0][0].mean(axis=0)
    return mean / np.linalg.norm(mean)


def rounded(vector):
    return [round(float(value), 6) for value in vector]


if __name__ == "__main__":
    main()
