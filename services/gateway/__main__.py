"""`python -m services.gateway`"""

from services.gateway.app import make
from services.gateway.settings import GatewaySettings
from shared.process import main

__all__: list[str] = []

if __name__ == "__main__":
    main("gateway", GatewaySettings, make)
