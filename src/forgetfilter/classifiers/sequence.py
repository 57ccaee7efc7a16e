"""Rate toxicity with sequence-classification models."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import AutoModelForSequenceClassification

from ..errors import ModelError, SettingsError
from ..models.loading import check_model, choose_hardware, explained, load_config, load_tokenizer, quiet_libraries
from ..models.sources import ModelSource, find_model
from ..models.weights import check_classes
from ..settings.groups import ModelSettings

_BATCH = 32
_LONGEST = 512
_TOXIC = ("toxic", "toxicity", "hate", "offensive", "abusive", "unsafe", "label_1")


class SequenceClassifier:
    """Rates texts by the probability of a model's toxic class; see `classifiers.Classifier`.

    The class is the one called toxic, or toxicity, hate, offensive, abusive, unsafe, label_1, the first there is.
    Where each class has a probability of its own (`multi_label_classification`, or one class alone), that is the
    score; else the classes share a probability of 1. A text is read up to 512 tokens, or as
    many as the model takes.
    """

    def __init__(self, name: str, model: str, label: str, device: str) -> None:
        """Load the model, from safetensors alone and without code of its own.

        Args:
            name: What to call it.
            model: A hub id, or a folder.
            label: The class that means toxic; empty finds it by its name.
            device: Where it runs; see the setting of that name.

        Raises:
            ModelError: It cannot be loaded, or has no trained classes.
            SettingsError: It has no class of that name, or none that is known to mean toxic.
        """
        self.name = name
        hardware = choose_hardware(ModelSettings(device=device))
        source, self._tokenizer, self._label = check_classifier(model, label)
        # Such models are small: float32 everywhere gives the same scores on every device.
        with explained(source.location, "classifier"):
            loaded, info = AutoModelForSequenceClassification.from_pretrained(
                source.location,
                dtype=torch.float32,
                use_safetensors=True,
                trust_remote_code=False,
                output_loading_info=True,
            )
        check_classes(info, source.location)
        text = loaded.config.get_text_config()
        # A decoder looks for its last token before the padding by this number.
        text.pad_token_id = self._tokenizer.pad_token_id if text.pad_token_id is None else text.pad_token_id
        positions = getattr(text, "max_position_embeddings", None) or _LONGEST
        self._longest = min(_LONGEST, positions, self._tokenizer.model_max_length)
        self._model = loaded.to(hardware.device).eval()
        self._apart = loaded.config.problem_type == "multi_label_classification" or loaded.config.num_labels == 1

    @torch.inference_mode()
    def scores(self, texts: Sequence[str]) -> NDArray[np.float64]:
        """Rate how toxic each text is, 0 to 1, larger = more toxic; 0 for an empty text."""
        scores = np.zeros(len(texts))
        # By length, so that little is padding.
        order = sorted((i for i, text in enumerate(texts) if text.strip()), key=lambda i: len(texts[i]))
        for start in range(0, len(order), _BATCH):
            chosen = order[start : start + _BATCH]
            inputs = self._tokenizer(
                [texts[i] for i in chosen], padding=True, truncation=True, max_length=self._longest, return_tensors="pt"
            ).to(self._model.device)
            logits = self._model(**inputs).logits
            shares = logits.sigmoid() if self._apart else logits.softmax(dim=-1)
            scores[chosen] = shares[:, self._label].double().cpu().numpy()
        return scores


def check_classifier(model: str, label: str) -> tuple[ModelSource, Any, int]:
    """Refuse a model that cannot tell toxic texts before any work; see `models.loading.check_model`.

    Args:
        model, label: As `SequenceClassifier` takes them.

    Returns:
        Where the model is, its tokenizer, and the number of the class that means toxic.

    Raises:
        ModelError: It cannot be loaded, has no trained classes, or its tokenizer cannot pad.
        SettingsError: It has no class of that name, or none that is known to mean toxic.
    """
    quiet_libraries()
    source = find_model(model)
    tokenizer = load_tokenizer(source)
    check_model(source, tokenizer, classifier=True)
    if tokenizer.pad_token_id is None:
        raise ModelError(
            f"{source.location}: this classifier's tokenizer has no pad_token, which texts of different lengths need; "
            "set one in its tokenizer_config.json, the one that it was trained with"
        )
    return source, tokenizer, _toxic_class(load_config(source), label, model)


def _toxic_class(config: Any, label: str, model: str) -> int:
    classes = {str(name).lower(): int(i) for i, name in config.id2label.items()}
    if len(classes) == 1 and not label:
        return 0
    for wanted in [label.lower()] if label else _TOXIC:
        if wanted in classes:
            return classes[wanted]
    shown = ", ".join(list(classes)[:20])
    raise SettingsError(
        f"toxicity_classifier: {model} has no class {label or 'that is called toxic'}; name one as {model}#LABEL. "
        f"It has {shown}"
    )
