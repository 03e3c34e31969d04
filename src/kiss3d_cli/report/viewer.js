// An orbit viewer for one mesh: drag to turn, wheel or pinch to zoom, right drag or shift drag to move it.
"use strict";
(() => {
  const canvas = document.getElementById("viewer-canvas");
  if (!canvas) return;
  const message = document.getElementById("viewer-message");
  const buttons = [...document.querySelectorAll("[data-mode]")];
  const layout = JSON.parse(document.getElementById("mesh-layout").textContent);
  const texture = document.getElementById("mesh-texture");
  const MODES = { texture: 0, colors: 1, normals: 2, shaded: 3, wireframe: 4, error: 5 };
  const START = { azimuth: 25, elevation: 12, distance: 4.0, x: 0, y: 0 };
  const FIELD_OF_VIEW = 30;
  let view = { ...START };
  let mode = layout.modes[0];
  let draw = () => {};

  const bytes = Uint8Array.from(atob(document.getElementById("mesh-data").textContent.trim()), (c) => c.charCodeAt(0));
  const part = (name, length, Kind) => new Kind(bytes.buffer, layout.at[name], length);

  const VERTEX = `#version 300 es
    in vec3 position; in vec3 normal; in vec2 uv; in vec3 color;
    uniform mat4 projection; uniform mat3 turn; uniform vec3 shift, low, size, center; uniform float scale;
    out vec3 toCamera; out vec2 place; out vec3 paint;
    void main() {
      vec3 world = (low + position * size - center) * scale;
      toCamera = turn * normal; place = uv; paint = color;
      gl_Position = projection * vec4(turn * world + shift, 1.0);
    }`;
  const FRAGMENT = `#version 300 es
    precision highp float;
    in vec3 toCamera; in vec2 place; in vec3 paint;
    uniform sampler2D picture; uniform int mode; uniform vec3 ink;
    out vec4 result;
    void main() {
      vec3 n = normalize(toCamera);
      float light = 0.35 + 0.65 * abs(n.z);
      vec3 color = ink;
      if (mode == 0) color = texture(picture, place).rgb;
      else if (mode == 1) color = paint;
      else if (mode == 2) color = (vec3(-n.x, n.y, n.z) + 1.0) / 2.0;
      else if (mode == 3) color = vec3(0.80, 0.78, 0.75) * (0.25 + 0.55 * abs(n.z) + 0.2 * max(0.0, dot(n, vec3(-0.4, 0.8, 0.45))));
      else if (mode == 5) color = paint * light;
      result = vec4(color, 1.0);
    }`;

  function setUp() {
    const gl = canvas.getContext("webgl2", { antialias: true, alpha: true });
    if (!gl) {
      message.textContent = "This browser offers no WebGL 2, so the mesh can't be turned here. The drawings below show it from four sides.";
      message.hidden = false;
      return;
    }
    const program = gl.createProgram();
    for (const [kind, source] of [[gl.VERTEX_SHADER, VERTEX], [gl.FRAGMENT_SHADER, FRAGMENT]]) {
      const shader = gl.createShader(kind);
      gl.shaderSource(shader, source);
      gl.compileShader(shader);
      gl.attachShader(program, shader);
    }
    gl.linkProgram(program);
    if (!gl.getProgramParameter(program, gl.LINK_STATUS)) throw new Error(gl.getProgramInfoLog(program));
    gl.useProgram(program);
    const at = (name) => gl.getUniformLocation(program, name);
    const upload = (target, data) => {
      const buffer = gl.createBuffer();
      gl.bindBuffer(target, buffer);
      gl.bufferData(target, data, gl.STATIC_DRAW);
      return buffer;
    };
    const attribute = (name, buffer, columns, kind, stride) => {
      const place = gl.getAttribLocation(program, name);
      if (place < 0) return;
      if (!buffer) { gl.disableVertexAttribArray(place); return; }
      gl.bindBuffer(gl.ARRAY_BUFFER, buffer);
      gl.enableVertexAttribArray(place);
      gl.vertexAttribPointer(place, columns, kind, true, stride, 0);
    };
    const count = layout.vertices;
    const rows = (name, length, Kind) => name in layout.at ? upload(gl.ARRAY_BUFFER, part(name, length, Kind)) : null;
    attribute("position", rows("position", 4 * count, Uint16Array), 3, gl.UNSIGNED_SHORT, 8);
    attribute("normal", rows("normal", 4 * count, Int8Array), 3, gl.BYTE, 4);
    attribute("uv", rows("uv", 2 * count, Uint16Array), 2, gl.UNSIGNED_SHORT, 4);
    const paints = { colors: rows("color", 4 * count, Uint8Array), error: rows("error", 4 * count, Uint8Array) };
    const corners = part("index", layout.indices, layout.wide ? Uint32Array : Uint16Array);
    const triangles = upload(gl.ELEMENT_ARRAY_BUFFER, corners);
    let lines = null;
    let lineCount = 0;

    gl.bindTexture(gl.TEXTURE_2D, gl.createTexture());
    gl.texImage2D(gl.TEXTURE_2D, 0, gl.RGBA, 1, 1, 0, gl.RGBA, gl.UNSIGNED_BYTE, new Uint8Array([128, 128, 128, 255]));
    if (texture) {
      texture.decode().then(() => {
        gl.texImage2D(gl.TEXTURE_2D, 0, gl.RGBA, gl.RGBA, gl.UNSIGNED_BYTE, texture);
        gl.generateMipmap(gl.TEXTURE_2D);
        gl.texParameteri(gl.TEXTURE_2D, gl.TEXTURE_WRAP_S, gl.CLAMP_TO_EDGE);
        gl.texParameteri(gl.TEXTURE_2D, gl.TEXTURE_WRAP_T, gl.CLAMP_TO_EDGE);
        request();
      }, () => { message.textContent = "The texture can't be decoded by this browser."; message.hidden = false; });
    }

    const center = layout.low.map((low, axis) => low + layout.size[axis] / 2);
    const scale = 2 / Math.hypot(...layout.size);
    gl.uniform3fv(at("low"), layout.low);
    gl.uniform3fv(at("size"), layout.size);
    gl.uniform3fv(at("center"), center);
    gl.uniform1f(at("scale"), scale);
    gl.enable(gl.DEPTH_TEST);

    draw = () => {
      const ratio = Math.min(window.devicePixelRatio || 1, 2);
      const width = Math.max(1, Math.round(canvas.clientWidth * ratio));
      const height = Math.max(1, Math.round(canvas.clientHeight * ratio));
      if (canvas.width !== width || canvas.height !== height) { canvas.width = width; canvas.height = height; }
      gl.viewport(0, 0, width, height);
      gl.clearColor(0, 0, 0, 0);
      gl.clear(gl.COLOR_BUFFER_BIT | gl.DEPTH_BUFFER_BIT);
      const focal = 1 / Math.tan((FIELD_OF_VIEW / 2) * Math.PI / 180) * Math.min(1, width / height);
      const near = 0.02, far = 50;
      gl.uniformMatrix4fv(at("projection"), false, [
        focal * height / width, 0, 0, 0, 0, focal, 0, 0,
        0, 0, -(far + near) / (far - near), -1, 0, 0, -2 * far * near / (far - near), 0,
      ]);
      const a = view.azimuth * Math.PI / 180, e = view.elevation * Math.PI / 180;
      // columns of the world-to-camera rotation, for a camera at (cos e sin a, sin e, cos e cos a)
      gl.uniformMatrix3fv(at("turn"), false, [
        Math.cos(a), -Math.sin(e) * Math.sin(a), Math.cos(e) * Math.sin(a),
        0, Math.cos(e), Math.sin(e),
        -Math.sin(a), -Math.sin(e) * Math.cos(a), Math.cos(e) * Math.cos(a),
      ]);
      gl.uniform3f(at("shift"), view.x, view.y, -view.distance);
      attribute("color", paints[mode] || null, 3, gl.UNSIGNED_BYTE, 4);
      gl.bindBuffer(gl.ELEMENT_ARRAY_BUFFER, triangles);
      const wire = mode === "wireframe";
      gl.uniform1i(at("mode"), MODES[mode]);
      gl.colorMask(!wire, !wire, !wire, !wire); // a wireframe's faces only hide what is behind them
      if (wire) { gl.enable(gl.POLYGON_OFFSET_FILL); gl.polygonOffset(1, 1); }
      gl.drawElements(gl.TRIANGLES, layout.indices, layout.wide ? gl.UNSIGNED_INT : gl.UNSIGNED_SHORT, 0);
      gl.disable(gl.POLYGON_OFFSET_FILL);
      gl.colorMask(true, true, true, true);
      if (!wire) return;
      if (!lines) {
        const edges = edgesOf(corners, count);
        lines = upload(gl.ELEMENT_ARRAY_BUFFER, edges);
        lineCount = edges.length;
      }
      const [r, g, b] = getComputedStyle(canvas).color.match(/[\d.]+/g).map(Number);
      gl.uniform3f(at("ink"), r / 255, g / 255, b / 255);
      gl.bindBuffer(gl.ELEMENT_ARRAY_BUFFER, lines);
      gl.drawElements(gl.LINES, lineCount, gl.UNSIGNED_INT, 0);
    };
    request();
  }

  function edgesOf(corners, count) {
    const keys = new Set();
    for (let face = 0; face < corners.length; face += 3)
      for (let side = 0; side < 3; side++) {
        const p = corners[face + side], q = corners[face + (side + 1) % 3];
        keys.add(Math.min(p, q) * count + Math.max(p, q));
      }
    const edges = new Uint32Array(2 * keys.size);
    let next = 0;
    for (const key of keys) { edges[next++] = Math.floor(key / count); edges[next++] = key % count; }
    return edges;
  }

  let waiting = false;
  function request() {
    if (waiting) return;
    waiting = true;
    requestAnimationFrame(() => { waiting = false; draw(); canvas.dataset.drawn = mode; });
  }

  function turn(dx, dy) {
    view.azimuth -= dx;
    view.elevation = Math.max(-89, Math.min(89, view.elevation + dy));
    request();
  }
  function zoom(factor) {
    view.distance = Math.max(1.1, Math.min(20, view.distance * factor));
    request();
  }
  function move(dx, dy) {
    const unit = 2 * view.distance * Math.tan((FIELD_OF_VIEW / 2) * Math.PI / 180) / canvas.clientHeight;
    view.x += dx * unit;
    view.y -= dy * unit;
    request();
  }

  const pointers = new Map();
  canvas.addEventListener("pointerdown", (event) => {
    canvas.setPointerCapture(event.pointerId);
    pointers.set(event.pointerId, [event.clientX, event.clientY]);
  });
  canvas.addEventListener("pointermove", (event) => {
    const before = pointers.get(event.pointerId);
    if (!before) return;
    const now = [event.clientX, event.clientY];
    const [dx, dy] = [now[0] - before[0], now[1] - before[1]];
    if (pointers.size === 2) {
      const other = [...pointers].find(([id]) => id !== event.pointerId)[1];
      const apart = (point) => Math.hypot(point[0] - other[0], point[1] - other[1]);
      zoom(apart(before) / Math.max(1, apart(now)));
      move(dx / 2, dy / 2);
    } else if (event.buttons === 2 || event.shiftKey) move(dx, dy);
    else turn(dx * 0.5, dy * 0.5);
    pointers.set(event.pointerId, now);
  });
  for (const end of ["pointerup", "pointercancel"])
    canvas.addEventListener(end, (event) => pointers.delete(event.pointerId));
  canvas.addEventListener("contextmenu", (event) => event.preventDefault());
  canvas.addEventListener("wheel", (event) => { event.preventDefault(); zoom(Math.exp(event.deltaY * 0.001)); }, { passive: false });
  const reset = () => { view = { ...START }; request(); };
  canvas.addEventListener("dblclick", reset);
  canvas.addEventListener("keydown", (event) => {
    const keys = {
      ArrowLeft: () => turn(10, 0), ArrowRight: () => turn(-10, 0), ArrowUp: () => turn(0, 10), ArrowDown: () => turn(0, -10),
      "+": () => zoom(0.9), "-": () => zoom(1 / 0.9), 0: reset,
    };
    if (event.key in keys && !event.ctrlKey && !event.metaKey) { event.preventDefault(); keys[event.key](); }
  });
  canvas.addEventListener("webglcontextlost", (event) => event.preventDefault());
  canvas.addEventListener("webglcontextrestored", setUp);

  function choose(name) {
    mode = name;
    for (const button of buttons) button.setAttribute("aria-pressed", String(button.dataset.mode === name));
    const legend = document.getElementById("viewer-legend");
    if (legend) legend.hidden = name !== "error";
    request();
  }
  for (const button of buttons) button.addEventListener("click", () => choose(button.dataset.mode));
  for (const button of document.querySelectorAll("[data-side]"))
    button.addEventListener("click", () => { view = { ...START, azimuth: Number(button.dataset.side), elevation: 5 }; request(); });
  new ResizeObserver(request).observe(canvas);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", request);
  choose(mode);
  setUp();
})();
