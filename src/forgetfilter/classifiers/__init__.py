"""Judge what a text is: toxicity classifiers, language models as judges, sequence classification models."""
