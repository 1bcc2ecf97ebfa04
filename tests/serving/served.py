"""A server over small runs, for tests: scored by tiny models in this process, asked in process or by a real browser."""

import io
import json
import socket
import threading
import time
from contextlib import contextmanager

import httpx
import numpy as np
import uvicorn
from PIL import Image

from aistudio.serving.app import make_app
from aistudio.serving.opening import open_engines, plan_serve
from tests.score_here import score_here

HOSTILE = "<script>document.title='owned'</script><img src=x onerror=\"document.title='owned'\">"
COLOURS = {"red": (210, 40, 40), "green": (40, 170, 60), "blue": (40, 70, 200), "yellow": (230, 210, 40)}


def picture(colour, seed, size=(48, 40), kind="PNG"):
    """A noisy picture of one colour."""
    noise = np.random.default_rng(seed).integers(-30, 30, (size[1], size[0], 3))
    out = io.BytesIO()
    Image.fromarray(np.clip(np.array(COLOURS[colour]) + noise, 0, 255).astype(np.uint8)).save(out, kind)
    return out.getvalue()


def make_run(folder, tiny_models, make_config, output="run"):
    """24 pictures of 12 items with categories and hostile texts, scored by two tiny models and the demo's composer."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = []
    for i in range(24):
        colour = list(COLOURS)[i % 4]
        (folder / f"{i}.png").write_bytes(picture(colour, i))
        lines.append(
            {
                "item_id": f"item{i // 2}", "image_url": str(folder / f"{i}.png"), "text": f"{colour} {i}",
                "category": HOSTILE if i % 6 == 5 else colour, "price": 10.0 * i, "note": HOSTILE if i == 3 else "=1+1",
            }
        )  # fmt: skip
    lines.append({"item_id": "lost", "image_url": str(folder / "none.png"), "text": "lost", "category": "red"})
    manifest = folder / "m.jsonl"
    manifest.write_text("\n".join(json.dumps(line) for line in lines), encoding="utf-8")
    config = make_config(
        manifest, "jsonl", ranking=None, columns={"item_id": "item_id", "image_url": "image_url", "text": "text"},
        output=str(folder / output),
        models={"encoders": {"second": tiny_models["recall"], "composed": "conf/models/tirg_demo.yaml"}},
    )  # fmt: skip
    return score_here(config)


def app_of(runs, overrides=(), token=None, log=None, **how):
    plan = plan_serve(runs, overrides, **how)
    engines = open_engines(plan, lambda line: None)
    return make_app(plan.settings, plan.config, engines, token=token, log=log or io.StringIO())


@contextmanager
def listening(app):
    """Serve on a free port of 127.0.0.1; yields the address."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    server = uvicorn.Server(uvicorn.Config(app, "127.0.0.1", port, log_level="error", timeout_graceful_shutdown=2))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    base = f"http://127.0.0.1:{port}"
    end = time.monotonic() + 60
    while time.monotonic() < end:
        try:
            if httpx.get(f"{base}/ready", timeout=2).status_code == 200:
                break
        except httpx.HTTPError:
            time.sleep(0.05)
    else:
        raise AssertionError("the server does not get ready")
    try:
        yield base
    finally:
        server.should_exit = True
        thread.join(20)
