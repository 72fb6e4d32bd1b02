"""Draws an episode of a Gymnasium environment from its actions, as a GIF.

Reads {"spec", "seed", "actions", "path"} as JSON from standard input. A process of its own, without
TensorFlow: Mesa's software renderer and TensorFlow bring different versions of LLVM along, and a
process that has both crashes.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import gymnasium
import numpy as np
from PIL import Image

PICTURES = 150  # at most


def frames(spec: str, seed: int, actions: list[Any]) -> list[Image.Image]:
    """Plays the episode again and returns what it looks like before every action."""
    images = []
    made = gymnasium.envs.registration.EnvSpec.from_json(spec)
    env = gymnasium.make(made, render_mode="rgb_array")
    try:
        env.reset(seed=seed)
        for action in actions:
            images.append(Image.fromarray(env.render()))
            env.step(np.asarray(action, env.action_space.dtype))
    finally:
        env.close()
    return images


def save(images: list[Image.Image], path: str) -> None:
    """Writes every so many of them as an animation."""
    every = -(-len(images) // PICTURES)
    small = [image.resize((300, 300 * image.height // image.width)) for image in images[::every]]
    first, *others = [image.quantize(64) for image in small]
    first.save(path, save_all=True, append_images=others, duration=40, loop=0)


def main() -> None:
    given = json.load(sys.stdin)
    save(frames(given["spec"], given["seed"], given["actions"]), given["path"])


if __name__ == "__main__":
    main()
