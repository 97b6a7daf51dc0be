"""`python -m services.gateway`: run the gateway; `--settings` prints its settings."""

import gc

if __name__ == "__main__":
    gc.disable()  # until all is imported: none of it is garbage, and to find that out takes a fifth of the time
    from services.gateway.app import make
    from services.gateway.settings import GatewaySettings
    from shared.process import main

    main("gateway", GatewaySettings, make)
