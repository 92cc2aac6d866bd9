"""Small scenes of flat panels, whose paths are known in closed form."""

import sionna_loc.channels  # noqa: F401 (loads LLVM, before Dr.Jit is imported)

# isort: split
import mitsuba as mi
import numpy as np
import sionna.rt as rt

FREQUENCY = 3e9


def isotropic(polarization="V"):
    return rt.PlanarArray(
        num_rows=1, num_cols=1, pattern="iso", polarization=polarization
    )


def mesh_scene(*meshes, conductivity=0.1, permittivity=5.0, thickness=1.0):
    """Scene of meshes (vertices [n, 3], faces [m, 3]), all of one material."""
    material = rt.RadioMaterial(
        "material",
        relative_permittivity=permittivity,
        conductivity=conductivity,
        thickness=thickness,
    )
    scene = rt.load_scene()
    objects = []
    for number, (vertices, faces) in enumerate(meshes):
        mesh = mi.Mesh(f"part-{number}", len(vertices), len(faces))
        parameters = mi.traverse(mesh)
        parameters["vertex_positions"] = np.ravel(vertices).astype(np.float32)
        parameters["faces"] = np.ravel(faces).astype(np.uint32)
        parameters.update()
        objects.append(
            rt.SceneObject(mi_mesh=mesh, name=f"part-{number}", radio_material=material)
        )
    if objects:
        scene.edit(add=objects)
    scene.frequency = FREQUENCY
    scene.tx_array = scene.rx_array = isotropic()
    return scene


def panel(corner, edge_u, edge_v):
    """Mesh of a parallelogram, in two triangles."""
    corner, edge_u, edge_v = (np.array(one, float) for one in (corner, edge_u, edge_v))
    vertices = [corner, corner + edge_u, corner + edge_u + edge_v, corner + edge_v]
    return np.array(vertices), np.array([[0, 1, 2], [0, 2, 3]])


def sphere(radius, num_rings):
    """Mesh of a sphere about the origin."""
    theta = np.linspace(0, np.pi, num_rings + 1)
    phi = np.linspace(0, 2 * np.pi, 2 * num_rings, endpoint=False)
    theta, phi = np.meshgrid(theta, phi, indexing="ij")
    vertices = radius * np.stack(
        [np.sin(theta) * np.cos(phi), np.sin(theta) * np.sin(phi), np.cos(theta)], -1
    ).reshape(-1, 3)
    row, column = np.meshgrid(
        np.arange(num_rings), np.arange(2 * num_rings), indexing="ij"
    )
    here = row * 2 * num_rings + column
    right = row * 2 * num_rings + (column + 1) % (2 * num_rings)
    below, diagonal = here + 2 * num_rings, right + 2 * num_rings
    faces = np.stack([here, below, diagonal, here, diagonal, right], -1)
    return vertices, faces.reshape(-1, 3)
