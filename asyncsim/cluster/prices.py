"""What a machine costs and draws: its price by the hour, its power, and the price of what it sends."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field

from asyncsim.registry import Registry, Spec
from asyncsim.units import DollarsPerGigabyte, DollarsPerHour, Watts

instances: Registry[Instance] = Registry("instance", default="custom")


@instances.register("custom")
class Instance(Spec):
    """A machine that you describe yourself; a bare value is its price. What is left out costs nothing and draws no power.

    - ``price``: dollars an hour, on demand. ``spot``: the share of it that is paid for a spot machine.
    - ``idle``, ``busy``: watts while it computes nothing, and while it computes.
    - ``egress``: dollars for each gigabyte (1e9 bytes) that it sends.
    - ``billed_while_down``: a machine that has crashed is kept, and idles, until it is back. By default nothing is paid or
      drawn while a worker is down, as with a spot instance that was taken away.
    """

    shorthand: ClassVar[str | None] = "price"
    price: DollarsPerHour = 0.0
    spot: float | None = Field(default=None, gt=0, le=1)
    idle: Watts = 0.0
    busy: Watts = 0.0
    egress: DollarsPerGigabyte = 0.0
    billed_while_down: bool = False

    @property
    def rate(self) -> float:
        """Dollars that an hour costs."""
        return self.price * (1.0 if self.spot is None else self.spot)


# Prices: on demand in us-east-1, from github.com/skypilot-org/skypilot-catalog, catalogs/aws/instances.csv at commit 5940ede.
# Power of the whole instance, idle and at full load: estimates by B. Davy, "Building an AWS EC2 Carbon Emissions Dataset", Teads
# 2021, from github.com/cloud-carbon-footprint/cloud-carbon-coefficients, data/aws-instances.csv of 15 December 2021.


@instances.register("aws_g4dn_xlarge")
class G4dnXlarge(Instance):
    """AWS g4dn.xlarge: one NVIDIA T4, 4 vCPU. Power of the instance: 16.4 W idle, 104.0 W at full load."""

    price: DollarsPerHour = 0.526
    idle: Watts = 16.4
    busy: Watts = 104.0


@instances.register("aws_p3_2xlarge")
class P32xlarge(Instance):
    """AWS p3.2xlarge: one NVIDIA V100, 8 vCPU. Power of the instance: 57.4 W idle, 379.8 W at full load."""

    price: DollarsPerHour = 3.06
    idle: Watts = 57.4
    busy: Watts = 379.8


@instances.register("aws_c5_xlarge")
class C5Xlarge(Instance):
    """AWS c5.xlarge: 4 vCPU. Power of the instance: 9.7 W idle, 35.9 W at full load."""

    price: DollarsPerHour = 0.17
    idle: Watts = 9.7
    busy: Watts = 35.9


AnInstance = Annotated[Instance, instances]
