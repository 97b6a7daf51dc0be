"""`python -m services.gateway`: run the gateway; `--settings` prints its settings."""

from shared.service.imports import uncollected

if __name__ == "__main__":
    with uncollected():
        from services.gateway.app import make
        from services.gateway.settings import GatewaySettings
        from shared.service.process import main

    main("gateway", GatewaySettings, make)
