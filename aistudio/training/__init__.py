"""How the demo weights are made: renderings, contrastive training of the recall model, the ranking head, measuring."""
