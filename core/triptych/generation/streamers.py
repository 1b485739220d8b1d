"""Streamers, where transformers had them."""

from triptych.generation.streaming import AsyncTextIteratorStreamer as AsyncTextIteratorStreamer
from triptych.generation.streaming import BaseStreamer as BaseStreamer
from triptych.generation.streaming import TextIteratorStreamer as TextIteratorStreamer
from triptych.generation.streaming import TextStreamer as TextStreamer
