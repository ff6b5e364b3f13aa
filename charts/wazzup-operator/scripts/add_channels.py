"""Give the simulated Wazzup beside it the channels in CHANNELS, as soon as it listens on PORT."""

import json
import os
import time

from wazzup_simulator.client import Simulator

simulator = Simulator(f"http://127.0.0.1:{os.environ['PORT']}")
deadline = time.monotonic() + 30
while True:
    try:
        (account,) = simulator.accounts()
        break
    except OSError:
        if time.monotonic() > deadline:
            raise
        time.sleep(0.1)
simulator.add_channels(json.loads(os.environ["CHANNELS"]), account.id)
