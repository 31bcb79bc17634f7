"""A Hugging Face Trainer: `bench run trainer.py --seeds 20`."""

import torch
from transformers import BertConfig, BertForSequenceClassification

from bench import Experiment
from bench.adapters import huggingface

CONFIG = {"vocab_size": 50, "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
words = torch.randint(50, (300, 8), generator=torch.Generator().manual_seed(0))
rows = [{"input_ids": w, "labels": int(w[0] > 24)} for w in words]


def train(trial):
    def model():
        return BertForSequenceClassification(BertConfig(**CONFIG, intermediate_size=32))

    args = {"num_train_epochs": 2, "eval_strategy": "epoch", "logging_strategy": "epoch"}
    data = {"train_dataset": rows[:150], "eval_dataset": rows[150:200], "test_dataset": rows[200:]}
    return huggingface.train(trial, model_init=model, args=args | dict(trial.settings), **data)


ARMS = {"plain": {"learning_rate": 1e-2}, "slow": {"learning_rate": 1e-3}}
EXPERIMENT = Experiment(name="trainer", question="Is slower better?", arms=ARMS, train=train)
