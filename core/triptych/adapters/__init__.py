"""Adapters: LoRA (Hu et al., 2021, https://arxiv.org/abs/2106.09685) in the file format of the library peft."""
