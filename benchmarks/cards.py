"""The graphics cards that programs are compiled for, each described to XLA's compiler by the numbers of its maker.

Sources: NVIDIA's data sheets of the A100 (SXM, 80 GB) and the H100 (SXM) for memory, bandwidth and peaks; its white papers on
the architectures Ampere and Hopper for multiprocessors, cache and clock; the CUDA C++ Programming Guide, table "Technical
Specifications per Compute Capability", for everything else. XLA's own descriptions of these cards have the same form
(`xla/backends/gpu/target_config/specs` in openxla/xla).
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Card:
    """One kind of graphics card: what the compiler needs to know, and the rates that an estimate takes for granted."""

    name: str
    """Short name, such as "H100"."""
    full_name: str
    """Name that the card's driver reports."""
    capability: tuple[int, int]
    """Compute capability: a number for the architecture and one for the version of it."""
    multiprocessors: int
    """Number of multiprocessors."""
    float32_cores: int
    """Number of float32 cores of a multiprocessor."""
    shared_memory: int
    """Bytes of shared memory of a multiprocessor; a block gets 1 KiB less."""
    cache: int
    """Bytes of the L2 cache."""
    clock: float
    """Highest clock rate in GHz."""
    memory: int
    """Bytes of its memory."""
    peak_bandwidth: float
    """Bytes a second that its memory moves by the data sheet."""
    bandwidth: float
    """Bytes a second that an estimate charges: 0.9 of the peak."""
    peak_flops: float
    """FLOP/s of dense bfloat16 matrix products by the data sheet."""
    flops: float
    """FLOP/s of bfloat16 products that an estimate charges: 0.35 of the peak, which is what small layers reach at best.
    Products of float32 numbers run in TF32 at half the rate."""

    def describe(self) -> str:
        """Describe the card as text of the message `stream_executor.GpuTargetConfigProto`, which the compiler takes."""
        major, minor = self.capability
        return f"""\
gpu_device_info {{
  threads_per_block_limit: 1024
  threads_per_warp: 32
  shared_memory_per_block: {48 * 1024}
  shared_memory_per_core: {self.shared_memory}
  shared_memory_per_block_optin: {self.shared_memory - 1024}
  threads_per_core_limit: 2048
  core_count: {self.multiprocessors}
  fpus_per_core: {self.float32_cores}
  block_dim_limit_x: {2**31 - 1}
  block_dim_limit_y: {2**16 - 1}
  block_dim_limit_z: {2**16 - 1}
  memory_bandwidth: {self.peak_bandwidth:.0f}
  l2_cache_size: {self.cache}
  clock_rate_ghz: {self.clock}
  device_memory_size: {self.memory}
  cuda_compute_capability {{ major: {major} minor: {minor} }}
  registers_per_core_limit: 65536
  registers_per_block_limit: 65536
}}
platform_name: "CUDA"
dnn_version_info {{ major: {_CUDNN[0]} minor: {_CUDNN[1]} patch: {_CUDNN[2]} }}
runtime_version {{ major: {_CUDA[0]} minor: {_CUDA[1]} }}
device_description_str: "{self.full_name}"
"""


_CUDNN, _CUDA = (9, 10, 2), (12, 9)
"""Versions of cuDNN and CUDA that the compiler may assume."""

LAUNCH_SECONDS = 2.5e-6
"""Seconds that an estimate charges for launching a kernel."""

CARDS = {
    card.name: card
    for card in (
        Card(
            name="H100",
            full_name="NVIDIA H100 80GB HBM3",
            capability=(9, 0),
            multiprocessors=132,
            float32_cores=128,
            shared_memory=228 * 1024,
            cache=50 * 2**20,
            clock=1.98,
            memory=80 * 10**9,
            peak_bandwidth=3.35e12,
            bandwidth=3.0e12,
            peak_flops=989.4e12,
            flops=350e12,
        ),
        Card(
            name="A100",
            full_name="NVIDIA A100-SXM4-80GB",
            capability=(8, 0),
            multiprocessors=108,
            float32_cores=64,
            shared_memory=164 * 1024,
            cache=40 * 2**20,
            clock=1.41,
            memory=80 * 10**9,
            peak_bandwidth=2.039e12,
            bandwidth=1.83e12,
            peak_flops=312e12,
            flops=110e12,
        ),
    )
}
"""Cards by name."""
