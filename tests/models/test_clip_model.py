"""CLIP as a fairseq model: weights in, what is frozen, what a checkpoint holds."""

import math
from argparse import Namespace

import pytest
import torch
from conftest_models import CLIP_SIZE, DIMENSIONS, fake_task, new_clip
