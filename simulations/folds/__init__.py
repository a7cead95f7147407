"""How good is the reward recipe on experts' pairs of questions that nobody trained on? Folds by question, with and without privacy.

pairs.py       experts' pairs, dealt to folds by question
adaptation.py  the hospitals' rounds on the other folds' pairs: their private steps, the coordinator's optimizer, no messages
recorded.py    scores on the disk, by prompt and text: a kill costs one part
readings.py    every reading of a pair: shallow baselines, question likelihood, reward before and after the hospitals, ensembles
figures.py     accuracy by fold, by source and pooled, with intervals over questions
trial.py       the whole, part by part
cli.py         wardround folds
"""
